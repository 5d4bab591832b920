"""Names of mobile operators by the MCC and MNC of delivery reports (ITU-T E.212).

The list contains the operators of Russia and, with the country, of its neighbours. For all others
the code itself is shown. Source: the ITU's list of mobile network codes.
"""

from __future__ import annotations

NETWORKS = {
    # Estonia, Latvia, Lithuania, Finland
    "24801": "Telia EE",
    "24802": "Elisa EE",
    "24803": "Tele2 EE",
    "24701": "LMT LV",
    "24702": "Tele2 LV",
    "24705": "Bite LV",
    "24601": "Telia LT",
    "24602": "Bite LT",
    "24603": "Tele2 LT",
    "24405": "Elisa FI",
    "24412": "DNA FI",
    "24491": "Telia FI",
    # Russia
    "25001": "MTS",
    "25002": "MegaFon",
    "25011": "Yota",
    "25020": "T2",
    "25027": "Letai",
    "25032": "Win mobile",
    "25035": "Motiv",
    "25039": "Rostelecom",
    "25050": "SberMobile",
    "25060": "Volna mobile",
    "25062": "T-Mobile",
    "25099": "Beeline",
    # Ukraine, Belarus, Moldova
    "25501": "Vodafone UA",
    "25503": "Kyivstar UA",
    "25506": "lifecell UA",
    "25701": "A1 BY",
    "25702": "MTS BY",
    "25704": "life:) BY",
    "25901": "Orange MD",
    "25902": "Moldcell MD",
    # Georgia, Armenia, Azerbaijan, Abkhazia
    "28201": "Silknet GE",
    "28202": "Magti GE",
    "28204": "Cellfie GE",
    "28301": "Team AM",
    "28305": "Viva AM",
    "28310": "Ucom AM",
    "28967": "Aquafon",
    "28988": "A-Mobile",
    "40001": "Azercell AZ",
    "40002": "Bakcell AZ",
    "40004": "Nar AZ",
    # Kazakhstan, Mongolia
    "40101": "Beeline KZ",
    "40102": "Kcell KZ",
    "40107": "Altel KZ",
    "40177": "Tele2 KZ",
    "42888": "Unitel MN",
    "42899": "Mobicom MN",
    # Uzbekistan, Tajikistan, Kyrgyzstan, Turkmenistan
    "43404": "Beeline UZ",
    "43405": "Ucell UZ",
    "43407": "Mobiuz UZ",
    "43408": "Uzmobile UZ",
    "43601": "Tcell TJ",
    "43602": "Tcell TJ",
    "43603": "MegaFon TJ",
    "43604": "Babilon-M TJ",
    "43605": "Zet-Mobile TJ",
    "43701": "Beeline KG",
    "43705": "Mega KG",
    "43709": "O! KG",
    "43801": "MTS TM",
    "43802": "Altyn Asyr TM",
}


def name(mcc_mnc: str) -> str:
    """Return the name of a mobile operator, or its code if it is not listed."""
    return NETWORKS.get(mcc_mnc, mcc_mnc)
