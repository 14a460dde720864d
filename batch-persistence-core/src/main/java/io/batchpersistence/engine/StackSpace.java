package io.batchpersistence.engine;

/**
 * Makes a call run out of stack before it begins rather than half way: there a {@link StackOverflowError} could leave a
 * lock locked for good, or a batch accepted although its caller was told otherwise. Applications call with hardly any
 * stack left when they persist what they log about a {@link StackOverflowError} of their own.
 *
 * <p>This is done for every batch. Compiled code reserves room in a frame for the arguments of every call in it, whether
 * the call is made or not. So few frames of a method that could call another one with very many arguments reach far, and
 * touch little of the memory in between: a fifteenth of the time of 200 frames of usual size, which also displace what
 * is in the processor's caches. An interpreted frame has room for the variables of its method in the same way.
 */
final class StackSpace {

    /** More than any call needs, 28 KB: compiled, each of these frames takes 1.9 KB. */
    private static final int FRAMES = 15;

    /** Enough for a JIT compiler to compile it. */
    private static final int WARM_UP_CALLS = 1_000;

    private StackSpace() {}

    /** Has it compiled, and the class loaded while there is stack left. */
    static void warmUp() {
        for (int i = 0; i < WARM_UP_CALLS; i++) {
            require();
        }
    }

    /**
     * Uses that much stack, and releases it.
     *
     * @throws StackOverflowError if less is left
     */
    static void require() {
        long unused = use(FRAMES);
    }

    private static long use(int n) {
        if (n < 0) {
            // Never. But an interpreted frame has room for all variables of its method, as a compiled one has for
            // arguments.
            for (long a0 = n,
                            a1 = n,
                            a2 = n,
                            a3 = n,
                            a4 = n,
                            a5 = n,
                            a6 = n,
                            a7 = n,
                            a8 = n,
                            a9 = n,
                            b0 = n,
                            b1 = n,
                            b2 = n,
                            b3 = n,
                            b4 = n,
                            b5 = n,
                            b6 = n,
                            b7 = n,
                            b8 = n,
                            b9 = n,
                            c0 = n,
                            c1 = n,
                            c2 = n,
                            c3 = n,
                            c4 = n,
                            c5 = n,
                            c6 = n,
                            c7 = n,
                            c8 = n,
                            c9 = n,
                            d0 = n,
                            d1 = n,
                            d2 = n,
                            d3 = n,
                            d4 = n,
                            d5 = n,
                            d6 = n,
                            d7 = n,
                            d8 = n,
                            d9 = n,
                            e0 = n,
                            e1 = n,
                            e2 = n,
                            e3 = n,
                            e4 = n,
                            e5 = n,
                            e6 = n,
                            e7 = n,
                            e8 = n,
                            e9 = n,
                            f0 = n,
                            f1 = n,
                            f2 = n,
                            f3 = n,
                            f4 = n,
                            f5 = n,
                            f6 = n,
                            f7 = n,
                            f8 = n,
                            f9 = n,
                            g0 = n,
                            g1 = n,
                            g2 = n,
                            g3 = n,
                            g4 = n,
                            g5 = n,
                            g6 = n,
                            g7 = n,
                            g8 = n,
                            g9 = n,
                            h0 = n,
                            h1 = n,
                            h2 = n,
                            h3 = n,
                            h4 = n,
                            h5 = n,
                            h6 = n,
                            h7 = n,
                            h8 = n,
                            h9 = n,
                            i0 = n,
                            i1 = n,
                            i2 = n,
                            i3 = n,
                            i4 = n,
                            i5 = n,
                            i6 = n,
                            i7 = n,
                            i8 = n,
                            i9 = n,
                            j0 = n,
                            j1 = n,
                            j2 = n,
                            j3 = n,
                            j4 = n,
                            j5 = n,
                            j6 = n,
                            j7 = n,
                            j8 = n,
                            j9 = n,
                            k0 = n,
                            k1 = n,
                            k2 = n,
                            k3 = n,
                            k4 = n,
                            k5 = n,
                            k6 = n,
                            k7 = n,
                            k8 = n,
                            k9 = n,
                            l0 = n,
                            l1 = n,
                            l2 = n,
                            l3 = n,
                            l4 = n,
                            l5 = n,
                            l6 = n,
                            l7 = n,
                            l8 = n,
                            l9 = n;
                    ; ) {
                return a0 ^ a1 ^ a2 ^ a3 ^ a4 ^ a5 ^ a6 ^ a7 ^ a8 ^ a9 ^ b0 ^ b1 ^ b2 ^ b3 ^ b4 ^ b5 ^ b6 ^ b7 ^ b8 ^ b9
                        ^ c0 ^ c1 ^ c2 ^ c3 ^ c4 ^ c5 ^ c6 ^ c7 ^ c8 ^ c9 ^ d0 ^ d1 ^ d2 ^ d3 ^ d4 ^ d5 ^ d6 ^ d7 ^ d8
                        ^ d9 ^ e0 ^ e1 ^ e2 ^ e3 ^ e4 ^ e5 ^ e6 ^ e7 ^ e8 ^ e9 ^ f0 ^ f1 ^ f2 ^ f3 ^ f4 ^ f5 ^ f6 ^ f7
                        ^ f8 ^ f9 ^ g0 ^ g1 ^ g2 ^ g3 ^ g4 ^ g5 ^ g6 ^ g7 ^ g8 ^ g9 ^ h0 ^ h1 ^ h2 ^ h3 ^ h4 ^ h5 ^ h6
                        ^ h7 ^ h8 ^ h9 ^ i0 ^ i1 ^ i2 ^ i3 ^ i4 ^ i5 ^ i6 ^ i7 ^ i8 ^ i9 ^ j0 ^ j1 ^ j2 ^ j3 ^ j4 ^ j5
                        ^ j6 ^ j7 ^ j8 ^ j9 ^ k0 ^ k1 ^ k2 ^ k3 ^ k4 ^ k5 ^ k6 ^ k7 ^ k8 ^ k9 ^ l0 ^ l1 ^ l2 ^ l3 ^ l4
                        ^ l5 ^ l6 ^ l7 ^ l8 ^ l9;
            }
        }
        return n == 0
                ? widest(
                        n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n,
                        n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n,
                        n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n,
                        n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n)
                : use(n - 1) + n;
    }

    /** Never called but at the deepest frame; too long to be inlined. */
    private static long widest(
            long a0,
            long a1,
            long a2,
            long a3,
            long a4,
            long a5,
            long a6,
            long a7,
            long a8,
            long a9,
            long b0,
            long b1,
            long b2,
            long b3,
            long b4,
            long b5,
            long b6,
            long b7,
            long b8,
            long b9,
            long c0,
            long c1,
            long c2,
            long c3,
            long c4,
            long c5,
            long c6,
            long c7,
            long c8,
            long c9,
            long d0,
            long d1,
            long d2,
            long d3,
            long d4,
            long d5,
            long d6,
            long d7,
            long d8,
            long d9,
            long e0,
            long e1,
            long e2,
            long e3,
            long e4,
            long e5,
            long e6,
            long e7,
            long e8,
            long e9,
            long f0,
            long f1,
            long f2,
            long f3,
            long f4,
            long f5,
            long f6,
            long f7,
            long f8,
            long f9,
            long g0,
            long g1,
            long g2,
            long g3,
            long g4,
            long g5,
            long g6,
            long g7,
            long g8,
            long g9,
            long h0,
            long h1,
            long h2,
            long h3,
            long h4,
            long h5,
            long h6,
            long h7,
            long h8,
            long h9,
            long i0,
            long i1,
            long i2,
            long i3,
            long i4,
            long i5,
            long i6,
            long i7,
            long i8,
            long i9,
            long j0,
            long j1,
            long j2,
            long j3,
            long j4,
            long j5,
            long j6,
            long j7,
            long j8,
            long j9,
            long k0,
            long k1,
            long k2,
            long k3,
            long k4,
            long k5,
            long k6,
            long k7,
            long k8,
            long k9,
            long l0,
            long l1,
            long l2,
            long l3,
            long l4,
            long l5,
            long l6,
            long l7,
            long l8,
            long l9) {
        return a0 ^ a1 ^ a2 ^ a3 ^ a4 ^ a5 ^ a6 ^ a7 ^ a8 ^ a9 ^ b0 ^ b1 ^ b2 ^ b3 ^ b4 ^ b5 ^ b6 ^ b7 ^ b8 ^ b9 ^ c0
                ^ c1 ^ c2 ^ c3 ^ c4 ^ c5 ^ c6 ^ c7 ^ c8 ^ c9 ^ d0 ^ d1 ^ d2 ^ d3 ^ d4 ^ d5 ^ d6 ^ d7 ^ d8 ^ d9 ^ e0 ^ e1
                ^ e2 ^ e3 ^ e4 ^ e5 ^ e6 ^ e7 ^ e8 ^ e9 ^ f0 ^ f1 ^ f2 ^ f3 ^ f4 ^ f5 ^ f6 ^ f7 ^ f8 ^ f9 ^ g0 ^ g1 ^ g2
                ^ g3 ^ g4 ^ g5 ^ g6 ^ g7 ^ g8 ^ g9 ^ h0 ^ h1 ^ h2 ^ h3 ^ h4 ^ h5 ^ h6 ^ h7 ^ h8 ^ h9 ^ i0 ^ i1 ^ i2 ^ i3
                ^ i4 ^ i5 ^ i6 ^ i7 ^ i8 ^ i9 ^ j0 ^ j1 ^ j2 ^ j3 ^ j4 ^ j5 ^ j6 ^ j7 ^ j8 ^ j9 ^ k0 ^ k1 ^ k2 ^ k3 ^ k4
                ^ k5 ^ k6 ^ k7 ^ k8 ^ k9 ^ l0 ^ l1 ^ l2 ^ l3 ^ l4 ^ l5 ^ l6 ^ l7 ^ l8 ^ l9;
    }
}
