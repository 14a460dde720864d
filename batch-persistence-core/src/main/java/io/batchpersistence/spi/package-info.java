/**
 * What a store implements: {@link io.batchpersistence.spi.BatchStore} and the types of its methods. Applications do not
 * call it; the engine does.
 */
@NullMarked
package io.batchpersistence.spi;

import org.jspecify.annotations.NullMarked;
