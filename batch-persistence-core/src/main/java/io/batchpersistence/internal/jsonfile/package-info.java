/** The JSON-files store: one readable file per batch. */
@NullMarked
package io.batchpersistence.internal.jsonfile;

import org.jspecify.annotations.NullMarked;
