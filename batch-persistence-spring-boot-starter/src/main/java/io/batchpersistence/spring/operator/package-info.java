/** What an operator can see and do, for the endpoint and the page, which are two ways to the same. */
@NullMarked
package io.batchpersistence.spring.operator;

import org.jspecify.annotations.NullMarked;
