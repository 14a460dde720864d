package io.batchpersistence.store;

import java.time.Duration;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Function;

/**
 * Randomized tests that become better the longer they run. By default each runs a few fixed seeds.
 * {@code -Dfaults.seconds=N} gives all of them together about that time, with as many seeds as fit.
 * {@code -Dfaults.seed=N} runs a single seed. The number of tried cases is printed.
 */
final class Campaign {

    private static final long SECONDS = Long.getLong("faults.seconds", 0);
    private static final String SEED = "faults.seed";

    private final String name;
    private final Map<String, AtomicLong> counts = new TreeMap<>();

    interface Round {
        void run(long seed) throws Exception;
    }

    private Campaign(String name) {
        this.name = name;
    }

    static boolean isLong() {
        return SECONDS > 0;
    }

    /** The {@link System#nanoTime} at which that share of the time is over. */
    static long end(double share) {
        return System.nanoTime() + (long) (Duration.ofSeconds(SECONDS).toNanos() * share);
    }

    /**
     * Runs the campaign.
     *
     * @param test the test, for the command that repeats a failure
     * @param share the share of the total time, on two processors
     * @param seeds the default number of seeds
     */
    static void run(String test, double share, int seeds, Function<Campaign, Round> rounds) throws Exception {
        Campaign campaign = new Campaign(test);
        Round round = rounds.apply(campaign);
        Long one = Long.getLong(SEED);
        long end = end(share);
        long first = one != null ? one : isLong() ? System.currentTimeMillis() * 1_000 : 1;
        try {
            for (long seed = first;
                    one != null ? seed == one : isLong() ? System.nanoTime() < end : seed < first + seeds;
                    seed++) {
                campaign.count("seeds", 1);
                try {
                    round.run(seed);
                } catch (Exception | AssertionError e) {
                    campaign.count("violations", 1);
                    // JUnit reports the reason.
                    System.out.println("FAULTS " + test + " failed with seed " + seed);
                    throw new AssertionError(
                            test + " failed with seed " + seed
                                    + "; to repeat it: mvn -pl batch-persistence-core test -Dtest='"
                                    + test.split("\\[", -1)[0] + "' -D" + SEED + "=" + seed,
                            e);
                }
            }
        } finally {
            campaign.print();
        }
    }

    void count(String what, long more) {
        counts.computeIfAbsent(what, name -> new AtomicLong()).addAndGet(more);
    }

    private void print() {
        counts.computeIfAbsent("violations", what -> new AtomicLong());
        StringBuilder line = new StringBuilder("FAULTS ").append(name).append(':');
        counts.forEach((what, count) -> line.append(line.charAt(line.length() - 1) == ':' ? " " : ", ")
                .append(String.format("%,d %s", count.get(), what)));
        System.out.println(line);
    }
}
