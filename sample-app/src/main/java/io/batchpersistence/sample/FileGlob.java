package io.batchpersistence.sample;

import java.io.IOException;
import java.nio.file.FileSystems;
import java.nio.file.FileVisitOption;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.PathMatcher;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * A file or a file pattern: {@code *} and {@code ?} within a name, <code>{a,b}</code>, {@code **} across directories.
 */
final class FileGlob {

    /** Files that rotation compresses: they contain no lines, and were read before they were compressed. */
    private static final Set<String> COMPRESSED = Set.of("gz", "zip", "bz2", "xz", "zst");

    private final Path path;
    private final @Nullable PathMatcher matcher;
    private final Path base;
    private final int depth;

    FileGlob(String pattern) {
        Path absolute = Path.of(pattern).toAbsolutePath().normalize();
        Path root = absolute;
        int levels = 0;
        for (Path p = absolute; p != null; p = p.getParent()) {
            Path name = p.getFileName();
            if (name != null && isPattern(name.toString())) {
                root = p.getParent() == null ? p : p.getParent();
                levels = absolute.getNameCount() - root.getNameCount();
            }
        }
        this.path = absolute;
        this.base = root;
        this.depth = pattern.contains("**") ? Integer.MAX_VALUE : levels;
        this.matcher = levels == 0 ? null : FileSystems.getDefault().getPathMatcher("glob:" + absolute);
    }

    private static boolean isPattern(String name) {
        return name.chars().anyMatch(c -> "*?[{".indexOf(c) >= 0);
    }

    /** Whether {@link #find()} would find this path. */
    boolean matches(Path candidate) {
        return candidate.equals(path) || (matcher != null && matcher.matches(candidate));
    }

    /**
     * Returns the regular files that exist now, sorted. Unreadable directories are skipped; they may be readable the
     * next time.
     */
    List<Path> find() throws IOException {
        if (matcher == null || Files.isRegularFile(path)) {
            return Files.isRegularFile(path) ? List.of(path) : List.of();
        }
        if (!Files.isDirectory(base)) {
            return List.of();
        }
        List<Path> found = new ArrayList<>();
        Files.walkFileTree(base, EnumSet.of(FileVisitOption.FOLLOW_LINKS), depth, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) {
                if (attributes.isRegularFile() && matches(file) && !isCompressed(file)) {
                    found.add(file);
                }
                return FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult visitFileFailed(Path file, IOException e) {
                return FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult postVisitDirectory(Path directory, @Nullable IOException e) {
                return FileVisitResult.CONTINUE;
            }
        });
        Collections.sort(found);
        return found;
    }

    static boolean isCompressed(Path file) {
        String name = file.toString();
        return COMPRESSED.contains(name.substring(name.lastIndexOf('.') + 1));
    }
}
