package io.batchpersistence.spring.operator;

import java.io.Serial;

/** A request that can't be answered; the message says what to change. */
public final class OperatorRequestException extends RuntimeException {

    @Serial
    private static final long serialVersionUID = 1;

    private final Reason reason;

    /** Whose fault it is, in the words of HTTP. */
    public enum Reason {
        /** It makes no sense. */
        BAD_REQUEST(400),
        /** What it is about is not there. */
        NOT_FOUND(404);

        private final int status;

        Reason(int status) {
            this.status = status;
        }

        /**
         * The status code.
         *
         * @return of HTTP
         */
        public int status() {
            return status;
        }
    }

    OperatorRequestException(Reason reason, String message) {
        super(message);
        this.reason = reason;
    }

    static OperatorRequestException bad(String message) {
        return new OperatorRequestException(Reason.BAD_REQUEST, message);
    }

    static OperatorRequestException notFound(String message) {
        return new OperatorRequestException(Reason.NOT_FOUND, message);
    }

    /**
     * Why.
     *
     * @return the reason
     */
    public Reason reason() {
        return reason;
    }
}
