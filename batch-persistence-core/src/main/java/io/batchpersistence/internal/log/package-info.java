/**
 * Text on its way in and out: log entries are normalized before they are stored, our own log lines are sanitized, and
 * deferred while their thread holds a lock. Depends on no other package of the project. Internal.
 */
@NullMarked
package io.batchpersistence.internal.log;

import org.jspecify.annotations.NullMarked;
