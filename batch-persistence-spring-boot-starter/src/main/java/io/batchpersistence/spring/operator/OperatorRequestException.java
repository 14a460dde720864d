package io.batchpersistence.spring.operator;

import java.io.Serial;

/** A request that can't be answered; the message says what to change. */
public final class OperatorRequestException extends RuntimeException {

    @Serial
    private static final long serialVersionUID = 1;

    private final Reason reason;

    /** The kind of error, in terms of HTTP. */
    public enum Reason {
        /** The request is invalid. */
        BAD_REQUEST(400),
        /** The requested batch or operation does not exist. */
        NOT_FOUND(404);

        private final int status;

        Reason(int status) {
            this.status = status;
        }

        /**
         * Returns the status code.
         *
         * @return the HTTP status code
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
     * Returns why the request can't be answered.
     *
     * @return the reason
     */
    public Reason reason() {
        return reason;
    }
}
