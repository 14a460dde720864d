/** What an application is told by application events. */
@NullMarked
package io.batchpersistence.spring.event;

import org.jspecify.annotations.NullMarked;
