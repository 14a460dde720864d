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

    public CustomerOrder(String id) {
        this.id = id;
    }

    public String getId() {
        return id;
    }
}
