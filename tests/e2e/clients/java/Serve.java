// Answers each request with the name in its first argument and the path, on the port in its second, and says the path:
// with the JDK's own HTTP server or, by its third argument (`nio`), with a ServerSocketChannel and its Selector.

import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;

public class Serve {
    public static void main(String[] arguments) throws Exception {
        var address = new InetSocketAddress(Integer.parseInt(arguments[1]));
        if (arguments.length > 2 && arguments[2].equals("nio")) {
            serveByChannels(arguments[0], address);
        } else {
            serveByServer(arguments[0], address);
        }
    }

    static void serveByServer(String name, InetSocketAddress address) throws IOException {
        var server = HttpServer.create(address, 0);
        server.createContext("/", exchange -> {
            var path = exchange.getRequestURI().getPath();
            var body = (name + " " + path).getBytes(StandardCharsets.UTF_8);
            System.out.println(path);
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }

    static void serveByChannels(String name, InetSocketAddress address) throws IOException {
        var selector = Selector.open();
        var server = ServerSocketChannel.open().bind(address);
        server.configureBlocking(false);
        server.register(selector, SelectionKey.OP_ACCEPT);
        while (true) {
            selector.select();
            var keys = selector.selectedKeys().iterator();
            while (keys.hasNext()) {
                var key = keys.next();
                keys.remove();
                if (key.isAcceptable()) {
                    var client = server.accept();
                    client.configureBlocking(false);
                    client.register(selector, SelectionKey.OP_READ, ByteBuffer.allocate(65536));
                } else {
                    answer(name, key);
                }
            }
        }
    }

    // Reads on, and answers once the request is whole. A client that has gone is its own end.
    static void answer(String name, SelectionKey key) throws IOException {
        var client = (SocketChannel) key.channel();
        var read = (ByteBuffer) key.attachment();
        try {
            var isOver = client.read(read) < 0;
            var text = new String(read.array(), 0, read.position(), StandardCharsets.US_ASCII);
            if (text.contains("\r\n\r\n")) {
                var path = text.split(" ")[1];
                var body = name + " " + path;
                System.out.println(path);
                var head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " + body.length() + "\r\n\r\n";
                client.write(ByteBuffer.wrap((head + body).getBytes(StandardCharsets.US_ASCII)));
                client.close();
            } else if (isOver) {
                client.close();
            }
        } catch (IOException gone) {
            client.close();
        }
    }
}
