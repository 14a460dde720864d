/** The segment store, the default. */
@NullMarked
package io.batchpersistence.store.segment;

import org.jspecify.annotations.NullMarked;
