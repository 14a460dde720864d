/** The JSON-files store: one readable file per batch. */
@NullMarked
package io.batchpersistence.store.file;

import org.jspecify.annotations.NullMarked;
