-- Two mails on a connection; nothing of the first is in the second.

dofile("mail.lua")
conn = connect()
deliver(conn, "<a@b>", "<c@d>", "one")
deliver(conn, "<e@f>", "<g@h>", "two")
mt.disconnect(conn)
