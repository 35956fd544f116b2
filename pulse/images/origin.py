"""Where a picture came from, kept in the picture: XMP with IPTC's digital source type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

TRAINED_ALGORITHMIC_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
DESCRIPTION = "Imagined face, drawn by a neural network: not a photograph of a person."
SOFTWARE = "PULSE"

NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "pulse": "https://pulse-upscale.example/ns/1.0/",
}


@dataclass(frozen=True)
class Origin:
    """What a generated picture says about itself.

    Attributes:
        generator: name of the generator.
        generator_sha256: of its weights file.
        seed: of the run.
        settings: everything else that makes it again; simple values only.
        description: in plain words.
        digital_source_type: address of the IPTC NewsCode.
    """

    generator: str
    generator_sha256: str
    seed: int
    settings: Mapping[str, Any]
    description: str = DESCRIPTION
    digital_source_type: str = TRAINED_ALGORITHMIC_MEDIA

    def settings_json(self) -> str:
        """Generator, seed and settings as one line of JSON."""
        return json.dumps(
            {
                "generator": self.generator,
                "generator_sha256": self.generator_sha256,
                "seed": self.seed,
                "settings": dict(self.settings),
            }
        )

    def to_xmp(self) -> bytes:
        """The XMP packet (ISO 16684-1)."""
        spaces = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
        return (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
            f"<x:xmpmeta {spaces}><rdf:RDF><rdf:Description rdf:about=''>"
            f"<Iptc4xmpExt:DigitalSourceType>{escape(self.digital_source_type)}"
            "</Iptc4xmpExt:DigitalSourceType>"
            f"<xmp:CreatorTool>{SOFTWARE}</xmp:CreatorTool>"
            '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">'
            f"{escape(self.description)}</rdf:li></rdf:Alt></dc:description>"
            f"<pulse:settings>{escape(self.settings_json())}</pulse:settings>"
            "</rdf:Description></rdf:RDF></x:xmpmeta>"
            '<?xpacket end="w"?>'
        ).encode()

    @classmethod
    def from_xmp(cls, packet: bytes) -> Origin | None:
        """Read a packet that `to_xmp` wrote; None if it is somebody else's."""
        root = _parsed(packet)
        if root is None:
            return None
        values = root.findtext(".//pulse:settings", namespaces=NAMESPACES)
        source_type = root.findtext(".//Iptc4xmpExt:DigitalSourceType", namespaces=NAMESPACES)
        description = root.findtext(".//dc:description//rdf:li", namespaces=NAMESPACES)
        if values is None or source_type is None or description is None:
            return None
        try:
            return cls(
                **json.loads(values), description=description, digital_source_type=source_type
            )
        except (ValueError, TypeError):  # another version's fields, or an edited packet
            return None


def digital_source_type_of(packet: bytes) -> str | None:
    """The digital source type in anybody's XMP packet, as an element or as an attribute."""
    root = _parsed(packet)
    if root is None:
        return None
    name = f"{{{NAMESPACES['Iptc4xmpExt']}}}DigitalSourceType"
    for element in root.iter():
        value = element.get(name) or (element.text if element.tag == name else None)
        if value:
            return value.strip()
    return None


def _parsed(packet: bytes) -> ElementTree.Element | None:
    """The packet's XML; None where it is damaged."""
    try:
        return ElementTree.fromstring(packet.decode().strip("\x00"))
    except (ElementTree.ParseError, UnicodeDecodeError):
        return None
