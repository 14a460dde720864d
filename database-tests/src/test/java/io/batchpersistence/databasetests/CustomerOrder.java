package io.batchpersistence.databasetests;

import jakarta.persistence.Entity;
import jakarta.persistence.Id;

/** What the business is about. */
@Entity
public class CustomerOrder {

    @Id
    private String id = "";

    /** For JPA. */
    protected CustomerOrder() {}

    /**
     * One.
     *
     * @param id its id
     */
    public CustomerOrder(String id) {
        this.id = id;
    }

    /**
     * Its id.
     *
     * @return the id
     */
    public String getId() {
        return id;
    }
}
