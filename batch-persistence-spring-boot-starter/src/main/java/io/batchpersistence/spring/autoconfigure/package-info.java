/**
 * Properties, beans and schedules. Everything except the properties is package-private: a bean of the same type in the
 * application replaces any of them.
 */
@NullMarked
package io.batchpersistence.spring.autoconfigure;

import org.jspecify.annotations.NullMarked;
