"""Mobile networks by the code that delivery reports name them with (MCC and MNC, ITU-T E.212).

The networks of Russia and its neighbours that people know by name; of all others the code itself is
shown. Source: the ITU's list of mobile network codes (annex to Operational Bulletin No. 1162).
"""

from __future__ import annotations

NETWORKS = {
    # Estonia, Latvia, Lithuania, Finland
    "24801": "Telia",
    "24802": "Elisa",
    "24803": "Tele2",
    "24701": "LMT",
    "24702": "Tele2",
    "24705": "Bite",
    "24601": "Telia",
    "24602": "Bite",
    "24603": "Tele2",
    "24405": "Elisa",
    "24412": "DNA",
    "24491": "Telia",
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
    "25501": "Vodafone",
    "25503": "Kyivstar",
    "25506": "lifecell",
    "25701": "A1",
    "25702": "MTS",
    "25704": "life:)",
    "25901": "Orange",
    "25902": "Moldcell",
    # Georgia, Armenia, Azerbaijan, Abkhazia
    "28201": "Silknet",
    "28202": "Magti",
    "28204": "Cellfie",
    "28301": "Team",
    "28305": "Viva",
    "28310": "Ucom",
    "28967": "Aquafon",
    "28988": "A-Mobile",
    "40001": "Azercell",
    "40002": "Bakcell",
    "40004": "Nar",
    # Kazakhstan, Mongolia
    "40101": "Beeline",
    "40102": "Kcell",
    "40107": "Altel",
    "40177": "Tele2",
    "42888": "Unitel",
    "42899": "Mobicom",
    # Uzbekistan, Tajikistan, Kyrgyzstan, Turkmenistan
    "43404": "Beeline",
    "43405": "Ucell",
    "43407": "Mobiuz",
    "43408": "Uzmobile",
    "43601": "Tcell",
    "43602": "Tcell",
    "43603": "MegaFon",
    "43604": "Babilon-M",
    "43605": "Zet-Mobile",
    "43701": "Beeline",
    "43705": "Mega",
    "43709": "O!",
    "43801": "MTS",
    "43802": "Altyn Asyr",
}


def name(mcc_mnc: str) -> str:
    """Return what people call a network; its code where we know no name, '' for none."""
    return NETWORKS.get(mcc_mnc, mcc_mnc)
