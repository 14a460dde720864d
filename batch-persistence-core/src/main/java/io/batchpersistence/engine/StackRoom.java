package io.batchpersistence.engine;

/**
 * Lets a call run out of stack before it has begun, not in the middle: there a {@link StackOverflowError} can leave a lock locked
 * for good, or a batch taken and its caller told otherwise. Applications call with hardly any stack left when they persist what
 * they log of a {@link StackOverflowError} of their own.
 */
final class StackRoom {

    /** More than any call needs: each takes about as much as a usual method with many variables. */
    private static final int FRAMES = 400;

    private StackRoom() {}

    /**
     * Uses that much stack, and gives it back.
     *
     * @throws StackOverflowError if there is less
     */
    static void require() {
        long unused = use(FRAMES, 1, 2, 3, 4, 5, 6);
    }

    /** All arguments are needed after the call, so all are kept on the stack. */
    private static long use(int frames, long a, long b, long c, long d, long e, long f) {
        return frames == 0 ? a : use(frames - 1, b, c, d, e, f, a + frames) ^ a ^ b ^ c ^ d ^ e ^ f ^ frames;
    }
}
