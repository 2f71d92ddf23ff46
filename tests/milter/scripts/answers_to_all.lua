-- An MTA of protocol version 2: every step is sent, and every step is answered.

dofile("mail.lua")
conn = connect()
-- miltertest 1.6.0 takes the protocol flags second, other than its manual says, and 0 for its default.
expect("negotiation", mt.negotiate(conn, 2, SMFIP_NOBODY, SMFIF_ADDHDRS), nil)
for name, option in pairs({SMFIP_NOCONNECT = SMFIP_NOCONNECT, SMFIP_NR_HDR = SMFIP_NR_HDR}) do
	expect(name, mt.test_option(conn, option), false)
end
expect("connection", mt.conninfo(conn, "localhost", "127.0.0.1"), nil)
expect("the answer to the connection", mt.getreply(conn), SMFIR_CONTINUE)
expect("HELO", mt.helo(conn, "localhost"), nil)
expect("the answer to HELO", mt.getreply(conn), SMFIR_CONTINUE)
deliver(conn, "<a@b>", "<c@d>", "old")
mt.disconnect(conn)
