package io.batchpersistence.sample;

import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.SpringBootConfiguration;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.context.annotation.Import;

/**
 * A log shipper that keeps every batch until it is delivered. Its two halves, shipper and built-in collector, are
 * switched by {@code shipper.enabled} and {@code collector.enabled}; for that reason they are imported explicitly,
 * without component scanning.
 */
@SpringBootConfiguration
@EnableAutoConfiguration
@Import({ShipperConfiguration.class, BuiltInCollectorConfiguration.class})
public class SampleApplication {

    /** For Spring. */
    public SampleApplication() {}

    /**
     * Runs the application.
     *
     * @param args the arguments of any Spring Boot application; or {@code nothing-lost-report}, the file of the
     *     built-in collector, and the shipped files, to compare them and exit
     */
    public static void main(String[] args) {
        if (args.length > 2 && args[0].equals("nothing-lost-report")) {
            List<Path> shipped = Stream.of(args).skip(2).map(Path::of).toList();
            System.exit(NothingLostReport.print(Path.of(args[1]), shipped, System.out));
        }
        SpringApplication.run(SampleApplication.class, args);
    }
}
