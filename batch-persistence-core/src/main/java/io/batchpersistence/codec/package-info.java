/** How entries become bytes and back: the published protobuf schema laid out by column, or JSON; then zstd. */
@NullMarked
package io.batchpersistence.codec;

import org.jspecify.annotations.NullMarked;
