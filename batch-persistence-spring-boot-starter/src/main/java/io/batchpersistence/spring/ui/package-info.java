/**
 * The operators' page: three static files and the JSON they request, on the application's own port. {@code
 * spring.operator} defines what operators can see and do; this package gives browsers access to it and checks who has
 * access.
 */
@NullMarked
package io.batchpersistence.spring.ui;

import org.jspecify.annotations.NullMarked;
