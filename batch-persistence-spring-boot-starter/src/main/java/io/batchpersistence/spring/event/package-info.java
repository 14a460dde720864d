/** Application events about batches and collectors. */
@NullMarked
package io.batchpersistence.spring.event;

import org.jspecify.annotations.NullMarked;
