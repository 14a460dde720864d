package io.batchpersistence.engine;

/**
 * Makes a call run out of stack before it begins rather than half way: there a {@link StackOverflowError} could leave a
 * lock locked for good, or a batch accepted although its caller was told otherwise. Applications call with hardly any
 * stack left when they persist what they log about a {@link StackOverflowError} of their own.
 */
final class StackSpace {

    /**
     * More than any call needs: compiled, each of these frames takes 142 bytes, as a usual method with many variables
     * does. Few large frames take less time than many small ones, and this is done for every batch.
     */
    private static final int FRAMES = 200;

    private StackSpace() {}

    /**
     * Uses that much stack, and releases it.
     *
     * @throws StackOverflowError if less is left
     */
    static void require() {
        long unused = use(FRAMES, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
    }

    /** All arguments are needed after the call, so all are kept on the stack. */
    private static long use(
            int n, long a, long b, long c, long d, long e, long f, long g, long h, long i, long j, long k, long l) {
        long used = n == 0 ? a : use(n - 1, b, c, d, e, f, g, h, i, j, k, l, a + n);
        return used ^ a ^ b ^ c ^ d ^ e ^ f ^ g ^ h ^ i ^ j ^ k ^ l ^ n;
    }
}
