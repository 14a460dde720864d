/** Encodes entries to bytes and back: the published protobuf schema in columnar layout, or JSON; then zstd. */
@NullMarked
package io.batchpersistence.internal.codec;

import org.jspecify.annotations.NullMarked;
