/** Opens the stores on disk: {@link io.batchpersistence.store.DiskBatchStores}. */
@NullMarked
package io.batchpersistence.store;

import org.jspecify.annotations.NullMarked;
