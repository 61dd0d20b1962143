// Takes its connection from JDBC_URL, and says which server it met.
import java.sql.DriverManager;

public class Jdbc {
    public static void main(String[] arguments) throws Exception {
        try (var connection = DriverManager.getConnection(System.getenv("JDBC_URL"))) {
            connection.createStatement().executeUpdate(
                    "UPDATE products SET stock_quantity = stock_quantity - 7 WHERE product_id = '1'");
            var row = connection.createStatement().executeQuery("SHOW cluster_name");
            row.next();
            System.out.println(row.getString(1));
        }
    }
}
