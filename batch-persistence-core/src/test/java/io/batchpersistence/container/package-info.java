/** What only a container can show: a disk that is really full, a container that is killed. */
@NullMarked
package io.batchpersistence.container;

import org.jspecify.annotations.NullMarked;
