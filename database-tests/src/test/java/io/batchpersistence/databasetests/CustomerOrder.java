package io.batchpersistence.databasetests;

import jakarta.persistence.Entity;
import jakarta.persistence.Id;

/** The business entity. */
@Entity
public class CustomerOrder {

    @Id
    private String id = "";

    /** For JPA. */
    protected CustomerOrder() {}

    /**
     * Creates an order.
     *
     * @param id the order's id
     */
    public CustomerOrder(String id) {
        this.id = id;
    }

    /**
     * Returns the order's id.
     *
     * @return the id
     */
    public String getId() {
        return id;
    }
}
