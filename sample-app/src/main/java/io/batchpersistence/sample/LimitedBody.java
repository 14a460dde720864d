package io.batchpersistence.sample;

import jakarta.servlet.http.HttpServletRequest;
import java.io.IOException;
import org.jspecify.annotations.Nullable;
import org.springframework.http.HttpStatus;
import org.springframework.http.ProblemDetail;
import org.springframework.web.ErrorResponseException;

/** The body of a request, as long as it is not too long to be held in memory. */
final class LimitedBody {

    private LimitedBody() {}

    /**
     * Reads it.
     *
     * @param max the most bytes it may have
     * @param advice what to do if it has more
     * @throws ErrorResponseException with 413 if it has
     */
    static byte[] read(HttpServletRequest request, int max, String advice) throws IOException {
        byte[] bytes = request.getContentLengthLong() > max
                ? null
                : request.getInputStream().readNBytes(max + 1);
        if (bytes == null || bytes.length > max) {
            throw problem(HttpStatus.CONTENT_TOO_LARGE, "the body has more than " + max + " bytes: " + advice, null);
        }
        return bytes;
    }

    static ErrorResponseException problem(HttpStatus status, String detail, @Nullable Exception cause) {
        return new ErrorResponseException(status, ProblemDetail.forStatusAndDetail(status, detail), cause);
    }
}
