package io.batchpersistence.spring.autoconfigure;

/** For applications in tests that must behave as if Spring Security were not on the class path. */
public final class WithoutSecurity {

    private static final String PACKAGE = "org.springframework.boot.security.autoconfigure.";

    /** The property that excludes the auto-configurations of Spring Security. */
    public static final String PROPERTY = "spring.autoconfigure.exclude="
            + String.join(
                    ",",
                    PACKAGE + "SecurityAutoConfiguration",
                    PACKAGE + "UserDetailsServiceAutoConfiguration",
                    PACKAGE + "actuate.web.servlet.ManagementWebSecurityAutoConfiguration",
                    PACKAGE + "web.servlet.SecurityFilterAutoConfiguration",
                    PACKAGE + "web.servlet.ServletWebSecurityAutoConfiguration");

    private WithoutSecurity() {}
}
