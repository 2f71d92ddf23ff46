/*
 * Reads mail files as the archiver does: with JavaMail.
 *
 *     java -cp javax.mail.jar:javax.activation.jar:... Judge ALLOWUTF8 NAME...
 *
 * ALLOWUTF8: true or false, JavaMail's mail.mime.allowutf8.
 * stdin: for each file its length (4 octets, most significant first) and its octets. stdout: for each
 * file one line with NAME=VALUE for every value of every NAME, VALUE in base64.
 */
import java.io.ByteArrayInputStream;
import java.io.DataInputStream;
import java.io.PrintStream;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import java.util.Properties;
import javax.mail.Session;
import javax.mail.internet.MimeMessage;

public class Judge {
    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        properties.setProperty("mail.mime.allowutf8", args[0]);
        Session session = Session.getInstance(properties);
        Charset charset =
            Boolean.parseBoolean(args[0]) ? StandardCharsets.UTF_8 : StandardCharsets.ISO_8859_1;
        String[] names = Arrays.copyOfRange(args, 1, args.length);
        byte[] input = System.in.readAllBytes();
        DataInputStream files = new DataInputStream(new ByteArrayInputStream(input));
        PrintStream out = new PrintStream(System.out, false, "US-ASCII");
        while (files.available() > 0) {
            byte[] file = new byte[files.readInt()];
            files.readFully(file);
            MimeMessage message = new MimeMessage(session, new ByteArrayInputStream(file));
            for (String name : names) {
                String[] values = message.getHeader(name);
                for (String value : values == null ? new String[0] : values) {
                    String base64 = Base64.getEncoder().encodeToString(value.getBytes(charset));
                    out.print(name + "=" + base64 + " ");
                }
            }
            out.print("\n");
        }
        out.flush();
    }
}
