package io.batchpersistence.sample;

import jakarta.servlet.http.HttpServletRequest;
import java.io.IOException;
import org.jspecify.annotations.Nullable;
import org.springframework.http.HttpStatus;
import org.springframework.http.ProblemDetail;
import org.springframework.web.ErrorResponseException;

/** The body of a request, limited to a size that can be held in memory. */
final class LimitedBody {

    private LimitedBody() {}

    /**
     * Reads a body.
     *
     * @param max the maximum size in bytes
     * @param advice what to do if the body is larger
     * @throws ErrorResponseException with 413 if the body is larger
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
