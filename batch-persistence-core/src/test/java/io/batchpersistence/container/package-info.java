/** Tests that need a container: a disk that is full, and a container that is killed. */
@NullMarked
package io.batchpersistence.container;

import org.jspecify.annotations.NullMarked;
