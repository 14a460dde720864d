/** What the stores on disk share: index, accounting, state journal. Internal. */
@NullMarked
package io.batchpersistence.internal.store;

import org.jspecify.annotations.NullMarked;
