package io.batchpersistence.spring.ui;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.logging.Level;
import org.openqa.selenium.By;
import org.openqa.selenium.OutputType;
import org.openqa.selenium.WebElement;
import org.openqa.selenium.chrome.ChromeDriver;
import org.openqa.selenium.chrome.ChromeDriverService;
import org.openqa.selenium.chrome.ChromeOptions;
import org.openqa.selenium.logging.LogType;
import org.openqa.selenium.logging.LoggingPreferences;
import org.openqa.selenium.support.ui.WebDriverWait;

/**
 * A headless Chromium, as installed on this machine: Debian's packages {@code chromium} and {@code chromium-driver}.
 * Nothing is downloaded. Without a browser, tests are skipped, unless {@code BATCH_PERSISTENCE_BROWSER_TESTS} is {@code
 * required}.
 */
final class Browser implements AutoCloseable {

    private static final Path CHROMIUM = Path.of("/usr/bin/chromium");
    private static final Path DRIVER = Path.of("/usr/bin/chromedriver");
    private static final Path SCREENSHOTS = Path.of("target", "screenshots");

    private final ChromeDriver driver;

    private Browser(ChromeDriver driver) {
        this.driver = driver;
    }

    /** Skips the test with a visible reason if there is no browser. */
    static Browser start() {
        if (!"required".equals(System.getenv("BATCH_PERSISTENCE_BROWSER_TESTS"))) {
            assumeTrue(
                    Files.isExecutable(CHROMIUM) && Files.isExecutable(DRIVER),
                    "no " + CHROMIUM + " or no " + DRIVER + ": the page is not tested in a browser; install Debian's"
                            + " packages chromium and chromium-driver");
        }
        ChromeOptions options = new ChromeOptions();
        options.setBinary(CHROMIUM.toFile());
        options.addArguments(
                "--headless=new",
                // Tests may run as root.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--disable-background-networking",
                "--hide-scrollbars",
                "--lang=en");
        LoggingPreferences logs = new LoggingPreferences();
        logs.enable(LogType.BROWSER, Level.ALL);
        options.setCapability("goog:loggingPrefs", logs);
        ChromeDriverService service = new ChromeDriverService.Builder()
                .usingDriverExecutable(DRIVER.toFile())
                .usingAnyFreePort()
                .withLogFile(new File("target", "chromedriver.log"))
                .build();
        Browser browser = new Browser(new ChromeDriver(service, options));
        browser.reset();
        return browser;
    }

    /** Restores the initial state. */
    void reset() {
        open("about:blank");
        size(1280, 900);
        dark(false);
        complaints();
    }

    @Override
    public void close() {
        driver.quit();
    }

    void open(String url) {
        driver.get(url);
    }

    void size(int width, int height) {
        driver.executeCdpCommand(
                "Emulation.setDeviceMetricsOverride",
                Map.of("width", width, "height", height, "deviceScaleFactor", 1, "mobile", false));
    }

    void dark(boolean dark) {
        driver.executeCdpCommand(
                "Emulation.setEmulatedMedia",
                Map.of("features", List.of(Map.of("name", "prefers-color-scheme", "value", dark ? "dark" : "light"))));
    }

    /** Cuts the connection, or restores it. */
    void offline(boolean offline) {
        driver.executeCdpCommand("Network.enable", Map.of());
        driver.executeCdpCommand(
                "Network.emulateNetworkConditions",
                Map.of("offline", offline, "latency", 0, "downloadThroughput", -1, "uploadThroughput", -1));
    }

    Object script(String script, Object... arguments) {
        return driver.executeScript(script, arguments);
    }

    WebElement find(String selector) {
        return driver.findElement(By.cssSelector(selector));
    }

    List<WebElement> all(String selector) {
        return driver.findElements(By.cssSelector(selector));
    }

    /** Returns the visible text. */
    String text(String selector) {
        // In one script: the page may replace an element between finding and reading it.
        Object text = script(
                "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText).join('\\n')", selector);
        return String.valueOf(text);
    }

    /** Returns the button with that text, or that accessible name. */
    WebElement button(String within, String name) {
        Object found = script(
                "return [...document.querySelectorAll(arguments[0] + ' button')].find(b => b.checkVisibility()"
                        + " && [b.innerText, b.getAttribute('aria-label')].includes(arguments[1]))",
                within,
                name);
        if (found instanceof WebElement button) {
            return button;
        }
        throw new AssertionError("there is no button " + name + " in " + within);
    }

    /** Waits until the text contains all of these parts. */
    void awaitText(String selector, String... parts) {
        new WebDriverWait(driver, Duration.ofSeconds(30), Duration.ofMillis(50))
                .withMessage(() -> selector + " has no " + List.of(parts) + " but is: " + text(selector))
                .until(ignored -> {
                    String text = text(selector);
                    return List.of(parts).stream().allMatch(text::contains);
                });
    }

    void awaitNot(String selector) {
        new WebDriverWait(driver, Duration.ofSeconds(30), Duration.ofMillis(50))
                .until(ignored -> all(selector).isEmpty());
    }

    /** Saves to {@code target/screenshots}, for a person to look at. */
    void screenshot(String name) {
        try {
            Files.createDirectories(SCREENSHOTS);
            Files.write(SCREENSHOTS.resolve(name + ".png"), driver.getScreenshotAs(OutputType.BYTES));
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    /** Asserts that axe finds no violation of WCAG 2.2 A and AA and of best practices in the page as it is. */
    void assertAccessible(String when) {
        try (InputStream axe = Browser.class.getResourceAsStream("/axe.min.js")) {
            assertThat(axe).isNotNull();
            script(new String(axe.readAllBytes(), StandardCharsets.UTF_8) + "; window.axe = axe;");
        } catch (IOException e) {
            throw new AssertionError(e);
        }
        Object found = driver.executeAsyncScript("const done = arguments[arguments.length - 1];"
                + "axe.run(document, {resultTypes: ['violations']}).then(result => done(result.violations.flatMap(v =>"
                + " v.nodes.map(n => v.id + ': ' + n.failureSummary + ' ' + n.html))), e => done([String(e)]))");
        assertThat((List<?>) found).as(when).isEmpty();
        Object overflow = script("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assertThat(((Number) overflow).intValue())
                .as(when + ": is wider than the screen")
                .isZero();
    }

    /** Returns errors and violations of the content security policy. */
    List<String> complaints() {
        return driver.manage().logs().get(LogType.BROWSER).getAll().stream()
                .filter(entry -> entry.getLevel().intValue() >= Level.WARNING.intValue())
                .map(entry -> entry.getMessage())
                .toList();
    }

    ChromeDriver driver() {
        return driver;
    }
}
