package io.batchpersistence.sample;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.springframework.mock.web.MockFilterChain;
import org.springframework.mock.web.MockHttpServletRequest;
import org.springframework.mock.web.MockHttpServletResponse;

class SameOriginFilterTest {

    /** The status of the response to a request to {@code http://shipper:8080}. */
    private static int status(String method, String... headers) throws Exception {
        MockHttpServletRequest request = new MockHttpServletRequest(method, "/collector/mode/down");
        request.setServerName("shipper");
        request.setServerPort(8080);
        for (int i = 0; i < headers.length; i += 2) {
            request.addHeader(headers[i], headers[i + 1]);
        }
        MockHttpServletResponse response = new MockHttpServletResponse();
        MockFilterChain chain = new MockFilterChain();
        new SameOriginFilter().doFilter(request, response, chain);
        assertThat(chain.getRequest() == null).isEqualTo(response.getStatus() == 403);
        return response.getStatus();
    }

    @Test
    void a_page_of_another_site_changes_nothing() throws Exception {
        for (String method : List.of("POST", "PUT", "DELETE", "PATCH")) {
            for (String site : List.of("cross-site", "same-site", "none", "odd")) {
                assertThat(status(method, "Sec-Fetch-Site", site)).as(site).isEqualTo(403);
            }
            for (String origin : List.of(
                    "http://evil.example", "null", "http://shipper:8081", "https://shipper", "http://shipper", "::")) {
                assertThat(status(method, "Origin", origin)).as(origin).isEqualTo(403);
            }
            assertThat(status(method, "Sec-Fetch-Site", "cross-site", "Origin", "http://shipper:8080"))
                    .isEqualTo(403);
        }
    }

    @Test
    void own_pages_and_programs_do() throws Exception {
        assertThat(status("POST")).isEqualTo(200);
        assertThat(status("POST", "Sec-Fetch-Site", "same-origin", "Origin", "http://shipper:8080"))
                .isEqualTo(200);
        assertThat(status("POST", "Origin", "http://shipper:8080")).isEqualTo(200);
    }

    @Test
    void any_page_may_link_to_what_changes_nothing() throws Exception {
        assertThat(status("GET", "Sec-Fetch-Site", "cross-site")).isEqualTo(200);
        assertThat(status("HEAD", "Sec-Fetch-Site", "cross-site")).isEqualTo(200);
    }
}
