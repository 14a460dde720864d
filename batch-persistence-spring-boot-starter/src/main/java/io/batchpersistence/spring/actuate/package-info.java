/** Health, metrics and the actuator endpoint for operators. */
@NullMarked
package io.batchpersistence.spring.actuate;

import org.jspecify.annotations.NullMarked;
