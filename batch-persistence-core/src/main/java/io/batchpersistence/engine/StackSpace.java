package io.batchpersistence.engine;

/**
 * Makes a call run out of stack before it begins rather than half way: there a {@link StackOverflowError} could leave a
 * lock locked for good, or a batch accepted although its caller was told otherwise. Applications call with hardly any
 * stack left when they persist what they log about a {@link StackOverflowError} of their own.
 */
final class StackSpace {

    /** More than any call needs: each of these frames takes about as much as a usual method with many variables. */
    private static final int FRAMES = 400;

    private StackSpace() {}

    /**
     * Uses that much stack, and releases it.
     *
     * @throws StackOverflowError if less is left
     */
    static void require() {
        long unused = use(FRAMES, 1, 2, 3, 4, 5, 6);
    }

    /** All arguments are needed after the call, so all are kept on the stack. */
    private static long use(int frames, long a, long b, long c, long d, long e, long f) {
        return frames == 0 ? a : use(frames - 1, b, c, d, e, f, a + frames) ^ a ^ b ^ c ^ d ^ e ^ f ^ frames;
    }
}
