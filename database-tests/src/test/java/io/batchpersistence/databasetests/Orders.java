package io.batchpersistence.databasetests;

import org.springframework.data.jpa.repository.JpaRepository;

/** Public, because its proxy is created by a class loader of a test. */
public interface Orders extends JpaRepository<CustomerOrder, String> {}
