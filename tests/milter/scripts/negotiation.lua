-- What is asked for: leading spaces, few replies, and no right to change anything.

dofile("mail.lua")
conn = connect()
expect("negotiation", mt.negotiate(conn, nil, nil, nil), nil)
for name, option in pairs({
	SMFIP_HDR_LEADSPC = SMFIP_HDR_LEADSPC, SMFIP_NR_HDR = SMFIP_NR_HDR, SMFIP_NR_RCPT = SMFIP_NR_RCPT,
	SMFIP_NR_EOH = SMFIP_NR_EOH, SMFIP_NR_BODY = SMFIP_NR_BODY, SMFIP_NOCONNECT = SMFIP_NOCONNECT,
	SMFIP_NOHELO = SMFIP_NOHELO, SMFIP_NODATA = SMFIP_NODATA, SMFIP_NOUNKNOWN = SMFIP_NOUNKNOWN,
}) do
	expect(name, mt.test_option(conn, option), true)
end
for name, option in pairs({
	SMFIP_NR_MAIL = SMFIP_NR_MAIL, SMFIP_SKIP = SMFIP_SKIP, SMFIP_RCPT_REJ = SMFIP_RCPT_REJ,
	SMFIP_NOMAIL = SMFIP_NOMAIL, SMFIP_NORCPT = SMFIP_NORCPT, SMFIP_NOHDRS = SMFIP_NOHDRS,
	SMFIP_NOEOH = SMFIP_NOEOH, SMFIP_NOBODY = SMFIP_NOBODY,
}) do
	expect(name, mt.test_option(conn, option), false)
end
for name, action in pairs({
	SMFIF_ADDHDRS = SMFIF_ADDHDRS, SMFIF_CHGBODY = SMFIF_CHGBODY, SMFIF_ADDRCPT = SMFIF_ADDRCPT,
	SMFIF_DELRCPT = SMFIF_DELRCPT, SMFIF_CHGHDRS = SMFIF_CHGHDRS, SMFIF_QUARANTINE = SMFIF_QUARANTINE,
	SMFIF_CHGFROM = SMFIF_CHGFROM, SMFIF_ADDRCPT_PAR = SMFIF_ADDRCPT_PAR,
}) do
	expect(name, mt.test_action(conn, action), false)
end
mt.disconnect(conn)
