"""Names of places for people: province by province, and the nine mainland cities of the Greater Bay Area.

Owns: the names by GB/T 2260 code in the four languages. Leaves to the regions' own `region.toml` what a region calls
itself. Portuguese names are those of Macau's own publications, which spell most places as Pinyin does.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.region import RegionNames


def _named(zh_hans: str, zh_hant: str, en: str, pt: str = "") -> RegionNames:
    return RegionNames(zh_hans, zh_hant, en, pt or en)


PROVINCES: Mapping[str, RegionNames] = {
    "11": _named("北京市", "北京市", "Beijing", "Pequim"),
    "12": _named("天津市", "天津市", "Tianjin"),
    "13": _named("河北省", "河北省", "Hebei"),
    "14": _named("山西省", "山西省", "Shanxi"),
    "15": _named("内蒙古自治区", "內蒙古自治區", "Inner Mongolia", "Mongólia Interior"),
    "21": _named("辽宁省", "遼寧省", "Liaoning"),
    "22": _named("吉林省", "吉林省", "Jilin"),
    "23": _named("黑龙江省", "黑龍江省", "Heilongjiang"),
    "31": _named("上海市", "上海市", "Shanghai", "Xangai"),
    "32": _named("江苏省", "江蘇省", "Jiangsu"),
    "33": _named("浙江省", "浙江省", "Zhejiang"),
    "34": _named("安徽省", "安徽省", "Anhui"),
    "35": _named("福建省", "福建省", "Fujian"),
    "36": _named("江西省", "江西省", "Jiangxi"),
    "37": _named("山东省", "山東省", "Shandong"),
    "41": _named("河南省", "河南省", "Henan"),
    "42": _named("湖北省", "湖北省", "Hubei"),
    "43": _named("湖南省", "湖南省", "Hunan"),
    "44": _named("广东省", "廣東省", "Guangdong"),
    "45": _named("广西壮族自治区", "廣西壯族自治區", "Guangxi"),
    "46": _named("海南省", "海南省", "Hainan"),
    "50": _named("重庆市", "重慶市", "Chongqing"),
    "51": _named("四川省", "四川省", "Sichuan"),
    "52": _named("贵州省", "貴州省", "Guizhou"),
    "53": _named("云南省", "雲南省", "Yunnan"),
    "54": _named("西藏自治区", "西藏自治區", "Tibet", "Tibete"),
    "61": _named("陕西省", "陝西省", "Shaanxi"),
    "62": _named("甘肃省", "甘肅省", "Gansu"),
    "63": _named("青海省", "青海省", "Qinghai"),
    "64": _named("宁夏回族自治区", "寧夏回族自治區", "Ningxia"),
    "65": _named("新疆维吾尔自治区", "新疆維吾爾自治區", "Xinjiang"),
    "71": _named("台湾省", "台灣省", "Taiwan"),
    "81": _named("香港特别行政区", "香港特別行政區", "Hong Kong"),
    "82": _named("澳门特别行政区", "澳門特別行政區", "Macau"),
}
"""By the first two digits."""

CITIES: Mapping[str, RegionNames] = {
    "4401": _named("广州市", "廣州市", "Guangzhou"),
    "4403": _named("深圳市", "深圳市", "Shenzhen"),
    "4404": _named("珠海市", "珠海市", "Zhuhai"),
    "4406": _named("佛山市", "佛山市", "Foshan"),
    "4407": _named("江门市", "江門市", "Jiangmen"),
    "4412": _named("肇庆市", "肇慶市", "Zhaoqing"),
    "4413": _named("惠州市", "惠州市", "Huizhou"),
    "4419": _named("东莞市", "東莞市", "Dongguan"),
    "4420": _named("中山市", "中山市", "Zhongshan"),
}
"""By the first four digits."""


def place_name(code: str, language: str) -> str:
    """Return what a person calls the place of a code, as exactly as is known here; the code where nothing is known."""
    city, province = CITIES.get(code[:4]), PROVINCES.get(code[:2])
    if province is None:
        return code
    if city is None:
        return province.of(language)
    if language.startswith("zh"):
        return province.of(language) + city.of(language)
    return f"{city.of(language)}, {province.of(language)}"
