/** What the stores on disk have in common for their users: the options. */
@NullMarked
package io.batchpersistence.store;

import org.jspecify.annotations.NullMarked;
