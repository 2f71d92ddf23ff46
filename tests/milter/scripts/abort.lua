-- A mail that is given up before its end, then another.

dofile("mail.lua")
conn = connect()
envelope(conn, "<first@b>", "<first@d>")
content(conn, "first")
expect("ABORT", mt.abort(conn), nil)
deliver(conn, "<second@b>", "<second@d>", "second")
mt.disconnect(conn)
