/**
 * The operators' page: three static files and the JSON they ask for, on the application's own port. What operators can see and
 * do is {@code spring.operator}'s; here is how a browser gets at it, and who may not.
 */
@NullMarked
package io.batchpersistence.spring.ui;

import org.jspecify.annotations.NullMarked;
