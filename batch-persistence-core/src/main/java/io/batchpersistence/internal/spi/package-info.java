/** What the modules of this project use of each other; not for applications. */
@NullMarked
package io.batchpersistence.internal.spi;

import org.jspecify.annotations.NullMarked;
