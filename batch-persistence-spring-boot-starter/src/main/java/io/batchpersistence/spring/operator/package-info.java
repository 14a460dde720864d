/** What an operator can see and do, shared by the actuator endpoint and the operators' page. */
@NullMarked
package io.batchpersistence.spring.operator;

import org.jspecify.annotations.NullMarked;
