// A Java service in small: connects by DATABASE_URL with JDBC, changes a row, and says what it then sees, and where; on
// stderr, which address its host has.

import java.net.InetAddress;
import java.net.URI;
import java.sql.DriverManager;
import java.util.Properties;

public class Client {
    public static void main(String[] arguments) throws Exception {
        URI url = new URI(System.getenv("DATABASE_URL"));
        System.err.println(url.getHost() + " is " + InetAddress.getByName(url.getHost()).getHostAddress());
        String[] login = url.getUserInfo().split(":", 2);
        Properties properties = new Properties();
        properties.setProperty("user", login[0]);
        properties.setProperty("password", login[1]);
        properties.setProperty("connectTimeout", "60");
        String query = url.getRawQuery() == null ? "" : "?" + url.getRawQuery();
        String jdbc = "jdbc:postgresql://" + url.getHost() + ":" + url.getPort() + url.getPath() + query;
        try (var connection = DriverManager.getConnection(jdbc, properties)) {
            try (var change = connection.prepareStatement(
                    "UPDATE products SET stock_quantity = stock_quantity - ? WHERE product_id = ?")) {
                change.setInt(1, 7);
                change.setString(2, "1");
                change.executeUpdate();
            }
            try (var asked = connection.prepareStatement(
                    "SELECT stock_quantity, current_setting('cluster_name') FROM products WHERE product_id = '1'")) {
                var row = asked.executeQuery();
                row.next();
                System.out.printf("{\"stock\": %d, \"cluster_name\": \"%s\"}%n", row.getLong(1), row.getString(2));
            }
        }
    }
}
