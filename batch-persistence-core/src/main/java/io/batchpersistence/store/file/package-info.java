/** The JSON-files store: one readable file a batch. */
@NullMarked
package io.batchpersistence.store.file;

import org.jspecify.annotations.NullMarked;
