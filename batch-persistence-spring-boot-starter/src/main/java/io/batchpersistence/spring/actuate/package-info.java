/** What an operator sees: health, metrics, endpoint. */
@NullMarked
package io.batchpersistence.spring.actuate;

import org.jspecify.annotations.NullMarked;
