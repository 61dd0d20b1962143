// Fetches the URL in its first argument and prints the body: with java.net.http, whose sockets do not block; or, by its
// second argument, with HttpURLConnection (`url`) or a SocketChannel and its Selector (`nio`).
// Which address the host has is said on stderr.

import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;

public class Fetch {
    public static void main(String[] arguments) throws Exception {
        var uri = new URI(arguments[0]);
        System.err.println(uri.getHost() + " is " + InetAddress.getByName(uri.getHost()).getHostAddress());
        var way = arguments.length > 1 ? arguments[1] : "client";
        System.out.println(switch (way) {
            case "url" -> new String(uri.toURL().openConnection().getInputStream().readAllBytes(), StandardCharsets.UTF_8);
            case "nio" -> fetchByChannel(uri);
            default -> fetchByClient(uri);
        });
    }

    static String fetchByClient(URI uri) throws Exception {
        var request = HttpRequest.newBuilder(uri).build();
        return HttpClient.newHttpClient().send(request, BodyHandlers.ofString()).body();
    }

    static String fetchByChannel(URI uri) throws Exception {
        try (var selector = Selector.open(); var channel = SocketChannel.open()) {
            channel.configureBlocking(false);
            var key = channel.register(selector, SelectionKey.OP_CONNECT);
            channel.connect(new InetSocketAddress(uri.getHost(), uri.getPort()));
            while (!channel.finishConnect()) {
                selector.select();
            }
            var request = "GET " + uri.getRawPath() + " HTTP/1.1\r\nHost: " + uri.getHost() + "\r\n\r\n";
            channel.write(ByteBuffer.wrap(request.getBytes(StandardCharsets.US_ASCII)));
            key.interestOps(SelectionKey.OP_READ);
            var told = ByteBuffer.allocate(65536);
            while (channel.read(told) >= 0) {
                selector.select();
            }
            var text = new String(told.array(), 0, told.position(), StandardCharsets.UTF_8);
            return text.substring(text.indexOf("\r\n\r\n") + 4);
        }
    }
}
