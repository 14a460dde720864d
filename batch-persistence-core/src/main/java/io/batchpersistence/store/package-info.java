/** The options that the stores on disk have in common. */
@NullMarked
package io.batchpersistence.store;

import org.jspecify.annotations.NullMarked;
