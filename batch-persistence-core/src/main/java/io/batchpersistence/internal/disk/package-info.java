/** The seam to the file system: everything the stores ask of it, and nothing more. Internal. */
@NullMarked
package io.batchpersistence.internal.disk;

import org.jspecify.annotations.NullMarked;
